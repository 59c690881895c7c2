"""Neural networks: encoders, memory cores and the actor-critic that combines them."""
