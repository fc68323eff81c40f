"""Words, tokens and prompts: how text becomes arrays, and how it is made comparable."""
