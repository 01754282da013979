"""Sets of recordings: where they come from, how they are read, divided, inspected and named.

- corpus: Utterance and Corpus, the one description that every reader gives; the official hash rule.
- reader: whatever the user names -> Corpus, by folders (Speech Commands' lists, word folders) or manifests (NeMo's).
- recordings: the sound of utterances.
- protocols: the known tasks by name, and how unknown and silence come about.
- inspection, report: what a data set holds, and what is wrong with it.
- fetch: the published data sets (archives), from the network (download) to a folder (unpack).
"""
