"""Several hosts on one machine: namespaces, cables that can be cut, certificates, a Dask cluster, strangers."""
