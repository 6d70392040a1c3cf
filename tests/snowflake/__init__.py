"""The views in Snowflake's dialect, run by a double of it: `make test-snowflake`, apart from `make test`."""
