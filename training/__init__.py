"""Training of the segmentation networks; nothing here is needed to serve them."""
