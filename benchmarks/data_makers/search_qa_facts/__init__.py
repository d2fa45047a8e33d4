"""The embedded facts: taken from pinned packages (`extract`), put into our words (`generate`), checked (`checks`)."""
