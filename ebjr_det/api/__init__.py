"""The verbs: a configuration or files in, a run folder and a result out. The command line adds nothing.

A verb is a module here, imported when it is used; the package's door has them all. Every verb checks what
it can before it computes, and its result's `to_dict` or `summary` is the JSON object that `--json` prints.
"""
