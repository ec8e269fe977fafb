package archive

import (
	"bytes"
	"testing"

	"ocikit/oci"
)

// What is read as an inventory is written and read again as the same.
func FuzzReadInventory(f *testing.F) {
	f.Add([]byte("sha256:5d6c547036a3745441dca17e3cca6fb86ec1026ba7b17db6e66b7f181ccc011d\n"))
	f.Add([]byte("sha256:5d6c547036a3745441dca17e3cca6fb86ec1026ba7b17db6e66b7f181ccc011d 12 sha256:ff104033699f92031d4b832f2af2908991237599eb7c34ac952822c8835d4b74\n\n"))
	f.Add([]byte("x\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		inv, err := ReadInventory(t.Context(), bytes.NewReader(data))
		if err != nil {
			return
		}
		var first, second bytes.Buffer
		if err := inv.Write(&first, true, true); err != nil {
			t.Fatal(err)
		}
		again, err := ReadInventory(t.Context(), bytes.NewReader(first.Bytes()))
		if err != nil {
			t.Fatalf("%q: %v", first.Bytes(), err)
		}
		if again.Write(&second, true, true); !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Errorf("%q became %q", first.Bytes(), second.Bytes())
		}
	})
}

// A list that is read holds images and blobs with digests.
func FuzzReadWanted(f *testing.F) {
	f.Add([]byte(`[{"missing":[{"digest":"sha256:5d6c547036a3745441dca17e3cca6fb86ec1026ba7b17db6e66b7f181ccc011d","size":1}],"root":{"digest":"sha256:ff104033699f92031d4b832f2af2908991237599eb7c34ac952822c8835d4b74","mediaType":"application/vnd.oci.image.manifest.v1+json","size":557}}]`))
	f.Add([]byte(`[]`))
	f.Add([]byte(`[],"want":[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		want, err := ReadWanted(bytes.NewReader(data))
		if err != nil {
			return
		}
		for _, w := range want {
			if w.Root.Digest.IsZero() || w.Root.MediaType == "" {
				t.Errorf("%q: an image without a descriptor", data)
			}
		}
		text, err := oci.Encode(want)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ReadWanted(bytes.NewReader(text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	})
}
