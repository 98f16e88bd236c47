"""`inspect` and `report`: what packs say, as rows, statistics, tables and one page."""
