"""Who may ask what: keys and tokens, what they allow, and pages of other sites kept out."""
