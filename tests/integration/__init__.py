"""Against a real Kafka and a real Redis."""
