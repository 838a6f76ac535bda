"""COCO's formats and COCO's metric: files read, checked and written, boxes matched, precision averaged."""
