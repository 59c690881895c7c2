"""Neural networks: encoders, memory cores and the actor-critic that joins them."""
