"""Node to node: requests that another node of the fleet answers, and mirrors that are fetched from there."""
