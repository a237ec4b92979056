"""Writers for the formats that people train from, and a loader straight from the table.

source.py     where rows come from: people and their images, joined
subject.py    the body that labels belong to, and how to say them for other bodies
samples.py    rows in each convention that a format asks for: camera frame, pivot, keypoint sets, pixels
plan.py       which image goes into which shard
records.py    what a folder remembers of its shards; checksums
shards.py     the engine: shards that are resumed, checked and listed
formats.py    all formats by name: humandata.py, hmr2.py, bedlam.py, coco.py, parquet.py, folder.py
licences.py   of poses, images, captions and body
card.py       the dataset card
croissant.py  Croissant's JSON-LD
run.py        an export from a store: what the command does
torch.py      PyTorch datasets that read the tables themselves

docs/exports.md says what each format's conventions are and what it cannot hold.
"""
