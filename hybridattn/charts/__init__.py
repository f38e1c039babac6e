"""How charts look (`figure`), and those of single results (`views`); matplotlib is loaded to draw one."""
