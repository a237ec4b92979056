#version 330 core
// Alpha 1 interpolates over the triangle; alpha 0 takes the value of one vertex, so that labels never mix.
in vec4 smooth_value;
flat in vec4 flat_value;
out vec4 frag_color;
void main() {
    frag_color = vec4(flat_value.a > 0.5 ? smooth_value.rgb : flat_value.rgb, 1.0);
}
