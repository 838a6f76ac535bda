"""Other tools' forms of annotated sets and of results, read into COCO's terms and written from them."""
