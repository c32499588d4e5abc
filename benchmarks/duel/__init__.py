"""Cloze against the servers that people would pick for a BERT on CPUs, in one run on one machine.

    make duel

Each rival lives in an environment of its own, `.venv-duel/NAME`, made of its requirements file
beside this one; a rival without its environment is left out, and said to be. All answer
`POST /v1/embeddings` or their own route of the same kind, from the same checkpoint, as somebody who
knows them would start them, on the same cores. Before any load their vectors are compared with
those of the reference, sentence-transformers in fp32.

One server runs at a time. In each round every server is started, warmed, measured with all texts
and stopped; the order turns from round to round. Ratios are taken within a round, and the median
over the rounds is the figure.
"""
