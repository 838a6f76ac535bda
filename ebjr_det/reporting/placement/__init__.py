"""Where a router pays, drawn: verdict, tables, figure and page."""
