"""What the data is worth: small students of human mesh recovery, trained on recipes of data and compared with intervals."""
