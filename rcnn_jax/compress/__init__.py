"""Compression: smaller and faster models.

channels   jaxpr of a prediction -> which channels of which layers stand and fall together
groups     channels -> groups of layers that share one decision, layers that keep all filters and why
criteria   norms of filters -> filters kept at a threshold
costs      filters kept -> parameters, FLOP, bytes of an ONNX file
prune      filters kept -> weights and widths of the smaller model
search     fraction of parameters or FLOP -> threshold
report     tables, sentences and a picture of it
command    all of it, from a model file to a model file
"""
