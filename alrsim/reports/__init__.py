"""What people look at: charts, tables, trace files and the JSON that others script against."""
