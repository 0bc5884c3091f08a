"""What every flow needs: the temporary server, progress, timings, errors without patient data."""
