"""Management commands of ConnectBot."""
