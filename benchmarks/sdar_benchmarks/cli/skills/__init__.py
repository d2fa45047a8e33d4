"""The verb `sdar skills`, one module for each group of actions."""
