"""Search-QA: questions to answer by searching a corpus of passages, turn by turn."""
