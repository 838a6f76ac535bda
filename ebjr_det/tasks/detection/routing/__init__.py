"""What scores and routers of detectors look at: boxes, features of classes, comparable scores."""
