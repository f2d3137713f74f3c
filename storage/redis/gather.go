package redis

type gather struct{ store *Store }
