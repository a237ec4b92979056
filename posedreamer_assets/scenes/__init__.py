"""Images of many people: who stands where, what of whom can be seen, and people painted into photographs.

apart.py       whether two dressed bodies touch, by nearest vertices
people.py      bodies of a scene: drawn, dressed, as solids
layout.py      placed on the ground of a scene until nobody touches another
draw.py        one draw of all people: colours, who, which part, how far
cast_shadows.py shadows of people on people, by a map of how far the light reaches
points.py      MPII's 16 joints, and which parts of a body lie next to each joint
labels.py      exact labels of the people of a scene
picture.py     people before or over something, with the maps that labels are read from
visibility.py  what of each person can be seen, and who hides the rest
photos.py      annotated photographs: COCO keypoints JSON
mpii_photos.py the same from MPII's own file of annotations
mpii_groups.py its groups of people, which are judged together
rle.py         masks as COCO's run lengths, and of its polygons
stand_in.py    a rendered domain, held apart, that stands where no photographs are given
mix.py         synthetic people over a photograph
stylise.py     colours and fine detail of the synthetic people made like those of a photograph
wct2.py        the same by a network, with weights of the user's
wct2_file.py   which tensors a file of such weights must hold
"""
