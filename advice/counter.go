package advice

// A counter has a value for each key, where the same few keys come again and again in
// much the same order. Its zero value is ready.
type counter[K comparable, V any] struct {
	keys   []K
	values []V
	at     map[K]int // the place of a key, once there are several
	last   int       // the place that was asked for last
}

// few is how many keys are looked through one by one.
const few = 8

// of returns the value of a key. It is good until the next call.
func (c *counter[K, V]) of(k K) *V {
	for i := c.last; i < min(c.last+2, len(c.keys)); i++ { // the same as before, or the next one
		if c.keys[i] == k {
			c.last = i
			return &c.values[i]
		}
	}
	if len(c.keys) <= few {
		for i := range c.keys {
			if c.keys[i] == k {
				c.last = i
				return &c.values[i]
			}
		}
	} else if i, ok := c.at[k]; ok {
		c.last = i
		return &c.values[i]
	}
	var none V
	c.last = len(c.keys)
	c.keys, c.values = append(c.keys, k), append(c.values, none)
	switch {
	case c.at != nil:
		c.at[k] = c.last
	case len(c.keys) > few:
		c.at = make(map[K]int)
		for i, k := range c.keys {
			c.at[k] = i
		}
	}
	return &c.values[c.last]
}

// reset forgets all keys, and keeps the memory.
func (c *counter[K, V]) reset() {
	c.keys, c.values, c.at, c.last = c.keys[:0], c.values[:0], nil, 0
}

// totals returns the values by key.
func (c *counter[K, V]) totals() map[K]V {
	m := make(map[K]V, len(c.keys))
	for i, k := range c.keys {
		m[k] = c.values[i]
	}
	return m
}
