"""Detection: EfficientDet and other detectors, COCO-format data, average precision in two stages."""
