"""Download, check, unpack and convert the official data sets."""
