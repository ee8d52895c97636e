"""What every question needs: programs, networks to measure, the record and the table."""
