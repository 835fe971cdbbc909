"""GDAS for nasframe: a supernet that runs one drawn candidate at each site."""

nasframe_api = "1"
