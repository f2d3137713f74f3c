package storagetest

import (
	"fmt"
	"reflect"
	"strings"
)

// brief prints a value without the fields that are zero, so that a history reads
// as a list of what was asked.
func brief(v any) string {
	var b strings.Builder
	writeBrief(&b, reflect.ValueOf(v))
	return b.String()
}

func writeBrief(b *strings.Builder, v reflect.Value) {
	if s, ok := v.Interface().(fmt.Stringer); ok {
		b.WriteString(s.String())
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		writeBrief(b, v.Elem())
	case reflect.Struct:
		b.WriteByte('{')
		first := true
		for field, value := range v.Fields() {
			if value.IsZero() {
				continue
			}
			if !first {
				b.WriteByte(' ')
			}
			first = false
			b.WriteString(field.Name + ":")
			writeBrief(b, value)
		}
		b.WriteByte('}')
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			fmt.Fprintf(b, "%q", v.Bytes())
			return
		}
		b.WriteByte('[')
		for i := range v.Len() {
			if i > 0 {
				b.WriteByte(' ')
			}
			writeBrief(b, v.Index(i))
		}
		b.WriteByte(']')
	default:
		fmt.Fprint(b, v.Interface())
	}
}
