package oci

import (
	"cmp"
	"slices"
)

// An Annotation is a name with its value (annotations.md of the image-spec).
type Annotation struct{ Name, Value string }

// Annotations are the annotations of a descriptor or a document, sorted by name, each name once. A
// descriptor's copies share them, so they are never changed: [Annotations.With] returns others.
//
// They are a list, and not a map, for the sake of an index.json of a hundred thousand names: a map
// with one name takes eight times the memory.
type Annotations []Annotation

// AnnotationsOf returns the annotations that a map holds.
func AnnotationsOf(m map[string]string) Annotations {
	return Annotations(nil).Merge(m)
}

// Merge returns a with the annotations of a map in place of its own of the same names. Their values
// may be "".
func (a Annotations) Merge(m map[string]string) Annotations {
	merged := make(Annotations, 0, len(a)+len(m))
	for _, own := range a {
		if _, ok := m[own.Name]; !ok {
			merged = append(merged, own)
		}
	}
	for name, value := range m {
		merged = append(merged, Annotation{name, value})
	}
	merged.sort()
	return merged
}

func (a Annotations) sort() {
	slices.SortFunc(a, func(x, y Annotation) int { return cmp.Compare(x.Name, y.Name) })
}

// Get returns the value of a name, "" if there is no such name.
func (a Annotations) Get(name string) string {
	value, _ := a.Find(name)
	return value
}

// Find is [Annotations.Get] that reports whether there is such a name.
func (a Annotations) Find(name string) (value string, ok bool) {
	for i := range a {
		if a[i].Name == name {
			return a[i].Value, true
		}
	}
	return "", false
}

// With returns a with one annotation set, or removed if value is "". What says so already is returned
// as it is.
func (a Annotations) With(name, value string) Annotations {
	was, ok := a.Find(name)
	if was == value && ok == (value != "") {
		return a
	}

	left := make(Annotations, 0, len(a)+1)
	for _, other := range a {
		if other.Name != name {
			left = append(left, other)
		}
	}

	if value != "" {
		left = append(left, Annotation{name, value})
		left.sort()
	}
	if len(left) == 0 {
		return nil
	}
	return left
}

// MarshalJSON encodes a as an object.
func (a Annotations) MarshalJSON() ([]byte, error) {
	var w writer
	w.open()
	w.annotationMembers(a)
	w.close()
	return w.b, w.err
}

// UnmarshalJSON decodes an object of texts; null is none.
func (a *Annotations) UnmarshalJSON(data []byte) (err error) {
	*a, err = newParser(data).annotations()
	return err
}
