#version 330 core
// Exact per-vertex values for data maps: no lighting, no blending between samples.
layout(location = 0) in vec3 position;
layout(location = COLOR_0_LOC) in vec4 color_0;
layout(location = INST_M_LOC) in mat4 inst_m;
uniform mat4 M;
uniform mat4 V;
uniform mat4 P;
out vec4 smooth_value;
flat out vec4 flat_value;
void main() {
    gl_Position = P * V * M * inst_m * vec4(position, 1.0);
    smooth_value = color_0;
    flat_value = color_0;
}
