"""PC-DARTS for nasframe: partial channel connections and edge normalization."""

nasframe_api = "1"
