"""The stages of a run: search and derive, retrain, report and export; plain data in between.

`search` asks `supernet_search` or `explorer_search` (whose scores `scoring` makes) for an architecture,
`retraining` trains it from scratch, `report` tests the network and tells of the run. What is trained is
trained by `fitting`, with the `trackers`; `workshop` is what all stages are given.
"""
