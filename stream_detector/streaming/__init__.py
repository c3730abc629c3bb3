"""The edge: the only place that knows files, brokers and stores."""
