"""Several machines: a run's certificates, agents on the hosts of a cluster, and who is placed where."""
