"""What every room uses: errors, decoding of others' fields, escaping, redaction, files. Knows no other room."""
