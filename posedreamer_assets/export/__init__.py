"""Writers for the formats that people train from, and a loader straight from the table.

source.py    where rows come from
subject.py   the body that labels belong to, and how to say them for other bodies
samples.py   rows in each convention that a format asks for: camera frame, pivot, keypoint sets
shards.py    the engine: shards that are resumed, checked and listed
formats.py   all formats by name: humandata.py, hmr2.py, bedlam.py, coco.py, parquet.py, folder.py
card.py      the dataset card and Croissant's JSON-LD
run.py       an export from a store: what the command does
torch.py     PyTorch datasets that read the table itself

docs/exports.md says what each format's conventions are and what it cannot hold.
"""
