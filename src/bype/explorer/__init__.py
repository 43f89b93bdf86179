"""`bype explore`: a server on this machine that draws from a model, slides between images and looks at own ones."""
