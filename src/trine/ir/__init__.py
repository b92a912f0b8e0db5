"""What flows between the stages: graphs, their printer and their verifier."""
