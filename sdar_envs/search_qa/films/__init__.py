"""Films of Search-QA: real films and their people, and the same with invented names."""
