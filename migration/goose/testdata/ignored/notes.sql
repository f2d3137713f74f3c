folders are not searched
