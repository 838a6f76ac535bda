"""Numbers only: values, deferral scores, the router, the joint model, costs, the trade-off."""
