"""The pages of the mirrors on the admin side: the list of repositories, one repository, and a panel."""
