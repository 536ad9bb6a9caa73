"""What the Ray executor stands on: the connection to a cluster, what runs on its nodes, jobs of several processes."""
