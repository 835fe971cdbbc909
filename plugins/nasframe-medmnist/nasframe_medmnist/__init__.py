"""MedMNIST for nasframe: medical images of one file as a dataset."""

nasframe_api = "1"
