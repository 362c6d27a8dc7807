"""The callers: services and accounts of people, their roles, and the roles of one's own."""
