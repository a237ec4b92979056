"""Writers for the formats that people train from, and a loader straight from the table.

samples.py   rows in each convention that a format asks for: camera frame, pivot, hands, keypoint sets
shards.py    the engine: shards that are resumed, checked and listed
humandata.py, hmr2.py, bedlam.py, coco.py, parquet.py, folder.py: one format each
card.py      the dataset card and Croissant's JSON-LD
torch.py     PyTorch datasets that read the table itself

docs/exports.md says what each format's conventions are and what it cannot hold.
"""
