"""Evidence about skills: the ledger of shown skills, its statistics, A/B trials, and proposals from episodes."""
